package main

import (
	"fmt"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// An installation is what one variant puts into a cluster, in the types that Kubernetes publishes.
type installation struct {
	variant    variant
	namespace  string
	objects    []*unstructured.Unstructured
	deployment *appsv1.Deployment
	services   map[string]*corev1.Service
	configs    map[string]*corev1.ConfigMap
}

func (r repository) installation(v variant) (*installation, error) {
	objects, err := r.build(v)
	if err != nil {
		return nil, err
	}
	in := &installation{
		variant: v, objects: objects,
		services: map[string]*corev1.Service{}, configs: map[string]*corev1.ConfigMap{},
	}
	for _, object := range objects {
		switch object.GetKind() {
		case "Namespace":
			in.namespace = object.GetName()
		case "Deployment":
			in.deployment = &appsv1.Deployment{}
			err = decode(object, in.deployment)
		case "Service":
			service := &corev1.Service{}
			err = decode(object, service)
			in.services[service.Name] = service
		case "ConfigMap":
			config := &corev1.ConfigMap{}
			err = decode(object, config)
			in.configs[config.Name] = config
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s %s: %w", v.name, object.GetKind(), object.GetName(), err)
		}
	}
	if in.deployment == nil {
		return nil, fmt.Errorf("%s: no Deployment", v.name)
	}
	return in, nil
}

// decode is strict: a field that the published type doesn't have is an error.
func decode(object *unstructured.Unstructured, into any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, into, true)
}

func (in *installation) container() *corev1.Container {
	return &in.deployment.Spec.Template.Spec.Containers[0]
}

func (in *installation) find(kind string) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, object := range in.objects {
		if object.GetKind() == kind {
			found = append(found, object)
		}
	}
	return found
}

func verify(repo repository, write bool) error {
	var wrong problems
	if err := alertRules(repo, write, &wrong); err != nil {
		return err
	}
	published, err := loadDefinitions()
	if err != nil {
		return err
	}
	restricted, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	for _, v := range variants() {
		in, err := repo.installation(v)
		if err != nil {
			return err
		}
		custom := 0
		for _, object := range in.objects {
			if !isCustom(object) {
				continue
			}
			custom++
			found, err := published.check(object)
			if err != nil {
				return err
			}
			for _, one := range found {
				wrong.add("%s: %s %s: %v", v.name, object.GetKind(), object.GetName(), one)
			}
		}
		podSecurity(in, restricted, &wrong)
		references(repo, in, &wrong)
		fmt.Printf("%-24s %d custom resources by their definitions, pod security, references\n", v.name, custom)
	}
	return wrong.err()
}

// podSecurity asks the code of the admission plugin itself, at the level that the namespace's label demands.
func podSecurity(in *installation, evaluator policy.Evaluator, wrong *problems) {
	for _, namespace := range in.find("Namespace") {
		if level := namespace.GetLabels()[podsecurity.EnforceLevelLabel]; level != string(podsecurity.LevelRestricted) {
			wrong.add("%s: the namespace enforces '%s' and not 'restricted'", in.variant.name, level)
		}
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	template := in.deployment.Spec.Template
	results := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec))
	if !results.Allowed {
		wrong.add("%s: Pod Security Standards: %s", in.variant.name, results.ForbiddenDetail())
	}
}

// alertRules holds the PrometheusRule to the rules file that promtool tests.
func alertRules(repo repository, write bool, wrong *problems) error {
	source, target := repo.path("deploy", "prometheus", "rules.yaml"), repo.path("deploy/kubernetes/components/prometheus/prometheusrule.yaml")
	text, err := os.ReadFile(source)
	if os.IsNotExist(err) {
		fmt.Println("NOT CHECKED: there is no deploy/prometheus/rules.yaml yet")
		return nil
	}
	if err != nil {
		return err
	}
	present, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	head, _, found := strings.Cut(string(present), "spec:\n")
	if !found {
		return fmt.Errorf("%s has no spec", target)
	}
	var rules map[string]any
	if err := yaml.UnmarshalStrict(text, &rules); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	body, err := yaml.Marshal(rules)
	if err != nil {
		return err
	}
	wanted := head + "spec:\n" + indent(string(body))
	if wanted == string(present) {
		return nil
	}
	if write {
		return os.WriteFile(target, []byte(wanted), 0o644)
	}
	wrong.add("the PrometheusRule differs from deploy/prometheus/rules.yaml: scripts/check-deploy --write")
	return nil
}

func indent(text string) string {
	var indented strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			indented.WriteString("  ")
		}
		indented.WriteString(line)
	}
	return indented.String()
}
