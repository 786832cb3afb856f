// Flags and variables in the manifests, held to what the binary knows.

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

var (
	helpFlag = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z][a-z0-9-]*)`)
	ourNames = regexp.MustCompile(`^ONBOARDFLOW_[A-Z0-9_]+$`)
)

// knownFlags holds every flag and variable to `--help` of the subcommand that the manifest names.
func knownFlags(in *installation, binary string, wrong *problems) {
	args := in.container().Args
	help, err := exec.Command(binary, args[0], "--help").Output()
	if err != nil {
		wrong.add("%s: `onboardflow-gateway %s --help`: %v", in.variant.name, args[0], err)
		return
	}
	var known []string
	for _, match := range helpFlag.FindAllStringSubmatch(string(help), -1) {
		known = append(known, match[1])
	}
	check := func(kind, name, flag string) {
		if !slices.Contains(known, flag) {
			wrong.add("%s: %s %s is unknown to `%s`", in.variant.name, kind, name, args[0])
		}
	}
	for _, arg := range args[1:] {
		flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		check("the flag", arg, flag)
	}
	names := 0
	for name := range in.settings() {
		if !ourNames.MatchString(name) {
			wrong.add("%s: the variable %s is none of the program's", in.variant.name, name)
			continue
		}
		names++
		check("the variable", name, strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "ONBOARDFLOW_"), "_", "-")))
	}
	fmt.Printf("%-24s %d flags and %d variables known to `%s --help`\n", in.variant.name, len(args)-1, names, args[0])
}
