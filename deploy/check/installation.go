// The objects of one variant, in the types that Kubernetes publishes, and the container's environment.

package main

import (
	"fmt"
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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

func (in *installation) probes() map[string]*corev1.Probe {
	container := in.container()
	return map[string]*corev1.Probe{
		"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe,
	}
}

func (in *installation) grace() time.Duration {
	return time.Duration(*in.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
}

// settings is the container's environment as the kubelet would make it, and nothing of ours.
func (in *installation) settings() map[string]string {
	container := in.container()
	settings := map[string]string{}
	for _, from := range container.EnvFrom {
		if config := in.configs[from.ConfigMapRef.Name]; config != nil {
			maps.Copy(settings, config.Data)
		}
	}
	for _, variable := range container.Env {
		settings[variable.Name] = variable.Value
		if source := variable.ValueFrom; source != nil && source.ResourceFieldRef != nil {
			settings[variable.Name] = resource(container, source.ResourceFieldRef)
		}
	}
	return settings
}

// resource divides and rounds up, as the kubelet does.
func resource(container *corev1.Container, reference *corev1.ResourceFieldSelector) string {
	name, found := strings.CutPrefix(reference.Resource, "requests.")
	quantity := container.Resources.Requests[corev1.ResourceName(name)]
	if !found {
		quantity = container.Resources.Limits[corev1.ResourceName(strings.TrimPrefix(name, "limits."))]
	}
	divisor := reference.Divisor.MilliValue()
	if divisor == 0 {
		divisor = 1000
	}
	return fmt.Sprint((quantity.MilliValue() + divisor - 1) / divisor)
}
