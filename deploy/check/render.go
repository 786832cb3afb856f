// What `kubectl kustomize` makes of deploy/kubernetes: of its overlays, of production with each component, and of the
// overlay that docs/kubernetes.md tells readers to write.

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	documented bool // the overlay is the one that docs/kubernetes.md tells readers to write, with every component
}

var components = []string{"mtls", "prometheus", "gateway-api", "istio"}

func variants() []variant {
	all := []variant{
		{name: "development", overlay: "development"},
		{name: "production", overlay: "production"},
	}
	// The ledger's needs a database, so it is built and held to the rules, but no pod of it is started.
	for _, component := range append(slices.Clone(components), "ledger-postgres") {
		all = append(all, variant{name: "production+" + component, overlay: "production", components: []string{component}})
	}
	return append(all, variant{name: "documented", components: components, documented: true})
}

// build does what `kubectl kustomize` does; the library is the same. The files are copied into memory first, so that
// components can be switched on where an operator would write them: in the overlay's own kustomization.
func (r repository) build(v variant) ([]*unstructured.Unstructured, error) {
	memory, err := r.inMemory()
	if err != nil {
		return nil, err
	}
	overlay := inMemory + "/overlays/" + v.overlay
	if v.documented {
		overlay = "/own"
		err = r.asDocumented(memory, overlay+"/kustomization.yaml")
	} else {
		err = addComponents(memory, overlay+"/kustomization.yaml", v.components)
	}
	if err != nil {
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

// inMemory is where the documentation's own overlay expects a checkout, beside it.
const inMemory = "/onboardflow-gateway/deploy/kubernetes"

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
		return memory.WriteFile(filepath.Join(inMemory, inside), content)
	})
	return memory, err
}

var codeBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// asDocumented writes the overlay that a reader of docs/kubernetes.md ends up with: its parts, in the order in which
// they stand there, with every component.
func (r repository) asDocumented(files filesys.FileSystem, path string) error {
	text, err := os.ReadFile(r.path("docs", "kubernetes.md"))
	if err != nil {
		return err
	}
	var overlay strings.Builder
	for _, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
		for _, key := range []string{"apiVersion: kustomize", "# kustomization", "configMapGenerator:", "patches:"} {
			if strings.HasPrefix(block[1], key) {
				overlay.WriteString(block[1])
			}
		}
	}
	whole := strings.ReplaceAll(overlay.String(), "sha256:…", "sha256:"+strings.Repeat("0", 64))
	if err := files.WriteFile(path, []byte(whole)); err != nil {
		return err
	}
	var others []string
	for _, component := range components {
		if !strings.Contains(whole, "/components/"+component+"\n") {
			others = append(others, component)
		}
	}
	return addComponents(files, path, others)
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
	relative, err := filepath.Rel(filepath.Dir(path), inMemory+"/components")
	if err != nil {
		return err
	}
	list, _ := kustomization["components"].([]any)
	for _, name := range names {
		list = append(list, filepath.Join(relative, name))
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
