// Secrets, mounted into a pod as the kubelet has them.

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mounted is where a path of the container lies here.
func (p *pod) mounted(mountPath string) string { return filepath.Join(p.folder, mountPath) }

// inside is a text of the manifest, an argument or a setting, with the paths that it names as they are here.
func (p *pod) inside(text string) string {
	for _, mount := range p.in.container().VolumeMounts {
		text = strings.ReplaceAll(text, mount.MountPath+"/", p.mounted(mount.MountPath)+"/")
	}
	return text
}

// mount publishes the Secrets' files where the manifest mounts them. Once more, it replaces them while the pod runs.
func (p *pod) mount(secrets map[string]map[string][]byte) error {
	for _, volume := range p.in.deployment.Spec.Template.Spec.Volumes {
		secret := secrets[volume.Secret.SecretName]
		if secret == nil {
			return fmt.Errorf("nobody made the Secret %s", volume.Secret.SecretName)
		}
		files := maps.Clone(secret)
		if len(volume.Secret.Items) > 0 {
			files = map[string][]byte{}
			for _, item := range volume.Secret.Items {
				files[item.Path] = secret[item.Key]
			}
		}
		for _, mount := range p.in.container().VolumeMounts {
			if mount.Name != volume.Name {
				continue
			}
			if err := writeAsKubelet(p.mounted(mount.MountPath), files); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeAsKubelet publishes files the way a Secret volume has them: links into a ..data link that is swapped at once.
func writeAsKubelet(folder string, files map[string][]byte) error {
	fresh := fmt.Sprintf("..%d", time.Now().UnixNano())
	if err := os.MkdirAll(filepath.Join(folder, fresh), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, fresh, name), content, 0o440); err != nil {
			return err
		}
	}
	before, _ := os.Readlink(filepath.Join(folder, "..data"))
	if err := os.Symlink(fresh, filepath.Join(folder, "..data_tmp")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
		return err
	}
	for name := range files {
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if before != "" {
		return os.RemoveAll(filepath.Join(folder, before))
	}
	return nil
}
