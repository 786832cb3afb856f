// `check verify`: everything that can be said of the manifests without running the program.

package main

import (
	"fmt"
	"os"
	"strings"

	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

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
