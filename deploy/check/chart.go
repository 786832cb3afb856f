// `check chart HELM`: what the Helm chart makes of its default values, against what kustomize makes of the base.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	encode "sigs.k8s.io/yaml"
)

const release = "onboardflow-gateway"

func chart(repo repository, helm string) error {
	base, err := repo.base()
	if err != nil {
		return err
	}
	rendered, err := repo.template(helm)
	if err != nil {
		return err
	}
	var wrong problems
	for name, wanted := range base {
		switch got, present := rendered[name]; {
		case !present:
			wrong.add("the chart makes no %s", name)
		case got != wanted:
			wrong.add("%s differs:\n%s", name, differences(wanted, got))
		}
	}
	for name := range rendered {
		if _, present := base[name]; !present {
			wrong.add("the base makes no %s", name)
		}
	}
	fmt.Printf("chart                    %d objects, as the base makes them\n", len(rendered))
	return wrong.err()
}

// base is what kustomize makes of deploy/kubernetes/base: YAML by kind and name.
func (r repository) base() (map[string]string, error) {
	memory, err := r.inMemory()
	if err != nil {
		return nil, err
	}
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, inMemory+"/base")
	if err != nil {
		return nil, err
	}
	text, err := result.AsYaml()
	if err != nil {
		return nil, err
	}
	return byName(bytes.NewReader(text))
}

// template is what helm makes of the chart.
func (r repository) template(helm string) (map[string]string, error) {
	command := exec.Command(helm, "template", release, r.path("deploy", "helm", release))
	command.Stderr = os.Stderr
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("helm template: %w", err)
	}
	return byName(bytes.NewReader(text))
}

func byName(stream io.Reader) (map[string]string, error) {
	found := map[string]string{}
	decoder := yaml.NewYAMLOrJSONDecoder(stream, 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if len(object.Object) == 0 {
			continue
		}
		settingsName(object)
		dropOwn(object.Object)
		text, err := encode.Marshal(object.Object)
		if err != nil {
			return nil, err
		}
		found[object.GetKind()+" "+object.GetName()] = string(text)
	}
}

// settingsName takes the hash from the name of the ConfigMap: a change of settings rolls out by it in kustomize, and by
// an annotation in the chart.
func settingsName(object *unstructured.Unstructured) {
	if object.GetKind() == "ConfigMap" {
		object.SetName(release)
	}
	containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
	for _, container := range containers {
		_ = unstructured.SetNestedSlice(container.(map[string]any), []any{
			map[string]any{"configMapRef": map[string]any{"name": release}},
		}, "envFrom")
	}
	if containers != nil {
		_ = unstructured.SetNestedSlice(object.Object, containers, "spec", "template", "spec", "containers")
	}
}

// dropOwn removes what each tool adds for itself: labels that name the release, and the settings' checksum.
func dropOwn(value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, own := range []string{
			"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/settings",
		} {
			delete(value, own)
		}
		for _, inner := range value {
			dropOwn(inner)
		}
	case []any:
		for _, inner := range value {
			dropOwn(inner)
		}
	}
}

// differences lists the lines that only one side has.
func differences(wanted, got string) string {
	count := map[string]int{}
	for _, line := range strings.Split(wanted, "\n") {
		count[line]--
	}
	for _, line := range strings.Split(got, "\n") {
		count[line]++
	}
	var lines []string
	for line, n := range count {
		if n < 0 {
			lines = append(lines, "  base:  "+line)
		} else if n > 0 {
			lines = append(lines, "  chart: "+line)
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
