package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// repository is the folder that holds deploy/, proto/ and docs/.
type repository string

func (r repository) path(elements ...string) string {
	return filepath.Join(append([]string{string(r)}, elements...)...)
}

// A variant is something that somebody may hand to `kubectl apply -k`.
type variant struct {
	name       string
	overlay    string
	components []string
}

var components = []string{"mtls", "prometheus", "gateway-api"}

func variants() []variant {
	all := []variant{
		{name: "development", overlay: "development"},
		{name: "production", overlay: "production"},
	}
	for _, component := range components {
		all = append(all, variant{"production+" + component, "production", []string{component}})
	}
	return append(all, variant{"production+all", "production", components})
}

// build does what `kubectl kustomize` does; the library is the same. The files are copied into memory first, so that
// components can be switched on where an operator would write them: in the overlay's own kustomization.
func (r repository) build(v variant) ([]*unstructured.Unstructured, error) {
	memory, err := r.inMemory()
	if err != nil {
		return nil, err
	}
	overlay := "/kubernetes/overlays/" + v.overlay
	if err := addComponents(memory, overlay+"/kustomization.yaml", v.components); err != nil {
		return nil, err
	}
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, overlay)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range result.Resources() {
		text, err := resource.MarshalJSON()
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func (r repository) inMemory() (filesys.FileSystem, error) {
	memory := filesys.MakeFsInMemory()
	from := r.path("deploy", "kubernetes")
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return memory.WriteFile(filepath.Join("/kubernetes", inside), content)
	})
	return memory, err
}

func addComponents(files filesys.FileSystem, path string, names []string) error {
	text, err := files.ReadFile(path)
	if err != nil {
		return err
	}
	var kustomization map[string]any
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return err
	}
	list, _ := kustomization["components"].([]any)
	for _, name := range names {
		list = append(list, "../../components/"+name)
	}
	if len(list) > 0 {
		kustomization["components"] = list
	}
	text, err = yaml.Marshal(kustomization)
	if err != nil {
		return err
	}
	return files.WriteFile(path, text)
}

// render writes each variant as VARIANT.yaml: the kinds that Kubernetes brings itself, for a validator that knows only
// those. The others are verify's to judge.
func render(repo repository, folder string) error {
	for _, v := range variants() {
		objects, err := repo.build(v)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		count := 0
		for _, object := range objects {
			if isCustom(object) {
				continue
			}
			one, err := yaml.Marshal(object.Object)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "---\n%s", one)
			count++
		}
		if err := os.WriteFile(filepath.Join(folder, v.name+".yaml"), text.Bytes(), 0o644); err != nil {
			return err
		}
		fmt.Printf("%-24s %d objects, %d of Kubernetes' own kinds\n", v.name, len(objects), count)
	}
	return nil
}

// isCustom tells a kind that comes by a CustomResourceDefinition. Kubernetes' own groups have no dot or end in k8s.io,
// and so do Gateway API's, which come by definitions all the same.
func isCustom(object *unstructured.Unstructured) bool {
	group := object.GroupVersionKind().Group
	return group == "gateway.networking.k8s.io" || strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
}
