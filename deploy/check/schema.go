// Custom resources, judged by the definitions that their projects publish.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// definitions says where each project publishes its CustomResourceDefinitions: in its Go module.
var definitions = map[string]string{ // group → module@version/folder
	"cert-manager.io":           "github.com/cert-manager/cert-manager@v1.21.2//deploy/crds",
	"monitoring.coreos.com":     "github.com/prometheus-operator/prometheus-operator@v0.85.0//example/prometheus-operator-crd",
	"gateway.networking.k8s.io": "sigs.k8s.io/gateway-api@v1.6.3//config/crd/standard",
	"networking.istio.io":       "istio.io/api@v1.32.0//kubernetes",
}

// validators judges custom resources with the very code that an API server has for them.
type validators struct {
	loaded map[string]*apiextensionsv1.CustomResourceDefinition // by group/kind
}

func loadDefinitions() (*validators, error) {
	v := &validators{loaded: map[string]*apiextensionsv1.CustomResourceDefinition{}}
	for _, where := range definitions {
		folder, err := moduleFolder(where)
		if err != nil {
			return nil, err
		}
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for _, document := range strings.Split(string(text), "\n---\n") {
				definition := &apiextensionsv1.CustomResourceDefinition{}
				if yaml.Unmarshal([]byte(document), definition) != nil || definition.Kind != "CustomResourceDefinition" {
					continue
				}
				v.loaded[definition.Spec.Group+"/"+definition.Spec.Names.Kind] = definition
			}
		}
	}
	return v, nil
}

func moduleFolder(where string) (string, error) {
	module, folder, _ := strings.Cut(where, "//")
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Dir = os.TempDir() // outside of any module: these aren't built with
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w\n%s", module, err, out)
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return "", err
	}
	return filepath.Join(answer.Dir, folder), nil
}

// check says everything that an API server with these definitions would: unknown fields, types, required fields,
// patterns, CEL rules.
func (v *validators) check(object *unstructured.Unstructured) (field.ErrorList, error) {
	kind := object.GroupVersionKind()
	definition := v.loaded[kind.Group+"/"+kind.Kind]
	if definition == nil {
		return nil, fmt.Errorf("%s: no definition of %s is known", object.GetName(), kind)
	}
	for _, version := range definition.Spec.Versions {
		if version.Name == kind.Version && version.Served {
			return judge(version.Schema, object)
		}
	}
	return nil, fmt.Errorf("%s: version %s of %s is not served", object.GetName(), kind.Version, kind.Kind)
}

func judge(published *apiextensionsv1.CustomResourceValidation, object *unstructured.Unstructured) (field.ErrorList, error) {
	var internal apiextensions.CustomResourceValidation
	err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(published, &internal, nil)
	if err != nil {
		return nil, err
	}
	structural, err := schema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	var found field.ErrorList
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(runtime.DeepCopyJSON(object.Object), structural, true, options) {
		found = append(found, field.Invalid(field.NewPath(path), "", "no such field"))
	}
	content := runtime.DeepCopyJSON(object.Object)
	defaulting.Default(content, structural)
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	found = append(found, validation.ValidateCustomResource(nil, content, validator)...)
	found = append(found, listtype.ValidateListSetsAndMaps(nil, structural, content)...)
	if rules := cel.NewValidator(structural, true, celconfig.PerCallLimit); rules != nil {
		errors, _ := rules.Validate(context.Background(), nil, structural, content, nil, celconfig.RuntimeCELCostBudget)
		found = append(found, errors...)
	}
	return found, nil
}
