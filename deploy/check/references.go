// What the objects of a variant say of each other, of the Dockerfile, of Cargo.toml and of the documentation.

package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// references finds what every object alone is innocent of: a selector that selects nothing, a port that nobody has, a
// Secret that nobody makes or documents, a grace period shorter than the drain.
func references(repo repository, in *installation, wrong *problems) {
	v := in.variant.name
	for _, object := range in.objects {
		if object.GetKind() != "Namespace" && object.GetNamespace() != in.namespace {
			wrong.add("%s: %s %s is in namespace '%s'", v, object.GetKind(), object.GetName(), object.GetNamespace())
		}
		checkByKind(in, object, wrong)
	}
	checkPod(repo, in, wrong)
	checkImage(repo, in, wrong)
	checkGrace(in, wrong)
}

func checkByKind(in *installation, object *unstructured.Unstructured, wrong *problems) {
	where := fmt.Sprintf("%s: %s %s", in.variant.name, object.GetKind(), object.GetName())
	must := func(err error) {
		if err != nil {
			wrong.add("%s: %v", where, err)
		}
	}
	switch object.GetKind() {
	case "Service":
		service := in.services[object.GetName()]
		must(in.selects(&metav1.LabelSelector{MatchLabels: service.Spec.Selector}))
		for _, port := range service.Spec.Ports {
			must(in.hasPort(port.TargetPort))
		}
	case "PodDisruptionBudget":
		var budget policyv1.PodDisruptionBudget
		must(decode(object, &budget))
		must(in.selects(budget.Spec.Selector))
	case "HorizontalPodAutoscaler":
		var scaler autoscalingv2.HorizontalPodAutoscaler
		must(decode(object, &scaler))
		checkScaler(in, &scaler, must)
	case "NetworkPolicy":
		var rules networkingv1.NetworkPolicy
		must(decode(object, &rules))
		must(in.selects(&rules.Spec.PodSelector))
		for _, rule := range rules.Spec.Ingress {
			for _, port := range rule.Ports {
				must(in.hasPort(*port.Port))
			}
		}
	case "ServiceMonitor":
		must(in.monitorFindsService(object))
	case "GRPCRoute":
		must(in.routeFindsService(object))
	case "VirtualService":
		must(in.meshFindsService(object))
	}
}

func (in *installation) selects(selector *metav1.LabelSelector) error {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return err
	}
	if parsed.Empty() || !parsed.Matches(labels.Set(in.deployment.Spec.Template.Labels)) {
		return fmt.Errorf("the selector '%s' does not select the pods", parsed)
	}
	return nil
}

func (in *installation) hasPort(wanted intstr.IntOrString) error {
	for _, port := range in.container().Ports {
		if port.Name == wanted.String() || strconv.Itoa(int(port.ContainerPort)) == wanted.String() {
			return nil
		}
	}
	return fmt.Errorf("the pods have no port '%s'", wanted.String())
}

func checkScaler(in *installation, scaler *autoscalingv2.HorizontalPodAutoscaler, must func(error)) {
	if target := scaler.Spec.ScaleTargetRef; target.Kind != "Deployment" || target.Name != in.deployment.Name {
		must(fmt.Errorf("it scales %s %s", target.Kind, target.Name))
	}
	if in.deployment.Spec.Replicas != nil {
		must(fmt.Errorf("the Deployment sets replicas too, and each apply would reset them"))
	}
	for _, metric := range scaler.Spec.Metrics {
		if metric.ContainerResource == nil {
			continue
		}
		if metric.ContainerResource.Container != in.container().Name {
			must(fmt.Errorf("there is no container '%s'", metric.ContainerResource.Container))
		}
		if _, asked := in.container().Resources.Requests[metric.ContainerResource.Name]; !asked {
			must(fmt.Errorf("utilization of %s needs a request of it", metric.ContainerResource.Name))
		}
	}
}

func (in *installation) monitorFindsService(object *unstructured.Unstructured) error {
	chosen, _, _ := unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
	endpoints, _, _ := unstructured.NestedSlice(object.Object, "spec", "endpoints")
	found := 0
	for _, service := range in.services {
		if !labels.SelectorFromSet(chosen).Matches(labels.Set(service.Labels)) {
			continue
		}
		found++
		for _, endpoint := range endpoints {
			if _, err := servicePort(service, endpoint.(map[string]any)["port"]); err != nil {
				return err
			}
		}
	}
	if found != 1 {
		return fmt.Errorf("it selects %d Services, and each pod would be scraped as often", found)
	}
	return nil
}

func (in *installation) routeFindsService(object *unstructured.Unstructured) error {
	rules, _, _ := unstructured.NestedSlice(object.Object, "spec", "rules")
	for _, rule := range rules {
		backends, _, _ := unstructured.NestedSlice(rule.(map[string]any), "backendRefs")
		for _, backend := range backends {
			reference := backend.(map[string]any)
			service := in.services[fmt.Sprint(reference["name"])]
			if service == nil {
				return fmt.Errorf("there is no Service '%v'", reference["name"])
			}
			if _, err := servicePort(service, reference["port"]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *installation) meshFindsService(object *unstructured.Unstructured) error {
	hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
	for _, host := range hosts {
		if in.services[host] == nil {
			return fmt.Errorf("there is no Service '%s'", host)
		}
	}
	return nil
}

// servicePort finds a port by its name or number.
func servicePort(service *corev1.Service, wanted any) (*corev1.ServicePort, error) {
	for _, port := range service.Spec.Ports {
		if port.Name == fmt.Sprint(wanted) || fmt.Sprint(port.Port) == fmt.Sprint(wanted) {
			return &port, nil
		}
	}
	return nil, fmt.Errorf("the Service %s has no port '%v'", service.Name, wanted)
}

func checkPod(repo repository, in *installation, wrong *problems) {
	v, pod := in.variant.name, in.deployment.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		wrong.add("%s: %d containers", v, len(pod.Containers))
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		wrong.add("%s: service links would set ONBOARDFLOW_GATEWAY_* variables", v)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		wrong.add("%s: a service account token is mounted", v)
	}
	accounts := in.find("ServiceAccount")
	if len(accounts) != 1 || accounts[0].GetName() != pod.ServiceAccountName {
		wrong.add("%s: the service account '%s' is not made here", v, pod.ServiceAccountName)
	}
	for _, from := range in.container().EnvFrom {
		if in.configs[from.ConfigMapRef.Name] == nil {
			wrong.add("%s: there is no ConfigMap '%s'", v, from.ConfigMapRef.Name)
		}
	}
	for _, probe := range in.probes() {
		if probe.GRPC == nil {
			wrong.add("%s: a probe isn't of the gRPC kind", v)
		} else if err := in.hasPort(intstr.FromInt32(probe.GRPC.Port)); err != nil {
			wrong.add("%s: probe: %v", v, err)
		}
	}
	checkVolumes(repo, in, wrong)
}

func checkVolumes(repo repository, in *installation, wrong *problems) {
	made := map[string]bool{}
	for _, certificate := range in.find("Certificate") {
		name, _, _ := unstructured.NestedString(certificate.Object, "spec", "secretName")
		made[name] = true
	}
	documentation, _ := os.ReadFile(repo.path("docs", "kubernetes.md"))
	volumes := map[string]bool{}
	for _, volume := range in.deployment.Spec.Template.Spec.Volumes {
		volumes[volume.Name] = true
		if volume.Secret == nil || made[volume.Secret.SecretName] {
			continue
		}
		if !strings.Contains(string(documentation), "create secret generic "+volume.Secret.SecretName) {
			wrong.add("%s: docs/kubernetes.md does not say how to make the Secret %s", in.variant.name, volume.Secret.SecretName)
		}
	}
	for _, mount := range in.container().VolumeMounts {
		if !volumes[mount.Name] {
			wrong.add("%s: there is no volume '%s'", in.variant.name, mount.Name)
		}
		if mount.SubPath != "" {
			wrong.add("%s: a subPath mount is never updated", in.variant.name)
		}
		delete(volumes, mount.Name)
	}
	for name := range volumes {
		wrong.add("%s: the volume '%s' is not mounted", in.variant.name, name)
	}
}

// checkImage holds the manifests to the Dockerfile and the Dockerfile to the version in Cargo.toml.
func checkImage(repo repository, in *installation, wrong *problems) {
	manifest, _ := os.ReadFile(repo.path("Cargo.toml"))
	dockerfile, _ := os.ReadFile(repo.path("Dockerfile"))
	version := regexp.MustCompile(`(?m)^version = "(.*)"`).FindSubmatch(manifest)
	if version == nil {
		wrong.add("Cargo.toml has no version")
		return
	}
	// The documentation's overlay names an image of the reader's.
	if tag := "onboardflow-gateway:" + string(version[1]); in.container().Image != tag && !in.variant.documented {
		wrong.add("%s: the image is %s and the version's is %s", in.variant.name, in.container().Image, tag)
	}
	if label := in.deployment.Spec.Template.Labels["app.kubernetes.io/version"]; label != string(version[1]) {
		wrong.add("%s: the label app.kubernetes.io/version is '%s' and the version %s", in.variant.name, label, version[1])
	}
	if !strings.Contains(string(dockerfile), "ARG VERSION="+string(version[1])+"\n") {
		wrong.add("the Dockerfile's VERSION is not %s", version[1])
	}
	security := in.deployment.Spec.Template.Spec.SecurityContext
	if user := fmt.Sprintf("USER %d:%d\n", *security.RunAsUser, *security.RunAsGroup); !strings.Contains(string(dockerfile), user) {
		wrong.add("%s: the Dockerfile does not say '%s'", in.variant.name, strings.TrimSpace(user))
	}
	expose := "EXPOSE"
	for _, port := range in.container().Ports {
		expose += fmt.Sprintf(" %d", port.ContainerPort)
	}
	if !strings.Contains(string(dockerfile), expose+"\n") {
		wrong.add("%s: the Dockerfile does not say '%s'", in.variant.name, expose)
	}
}

// checkGrace holds the pod's grace period to the drain, and to the longest call what may end one: the drain, and a
// connection's age.
func checkGrace(in *installation, wrong *problems) {
	const spare = 5 * time.Second
	settings := in.settings()
	delay, timeout := seconds(settings["ONBOARDFLOW_DRAIN_DELAY"]), seconds(settings["ONBOARDFLOW_DRAIN_TIMEOUT"])
	longest, age := seconds(settings["ONBOARDFLOW_MAX_TIMEOUT"]), seconds(settings["ONBOARDFLOW_MAX_CONNECTION_AGE_GRACE"])
	if delay == 0 || timeout == 0 || longest == 0 || age == 0 {
		wrong.add("%s: drain delay and timeout, max timeout and max connection age grace must be set", in.variant.name)
		return
	}
	if grace := in.grace(); grace < delay+timeout+spare {
		wrong.add("%s: the grace period of %v is shorter than a drain of %v + %v + %v", in.variant.name, grace, delay, timeout, spare)
	}
	if timeout < longest {
		wrong.add("%s: a drain of %v cuts off calls of %v", in.variant.name, timeout, longest)
	}
	if age < longest {
		wrong.add("%s: a connection's age cuts off calls of %v after %v", in.variant.name, longest, age)
	}
}

func seconds(text string) time.Duration {
	duration, _ := time.ParseDuration(text)
	return duration
}
