// Command check holds the deployment files to what a cluster, and the program itself, would say of them. It needs no
// cluster: scripts/check-deploy and scripts/rehearse-rollout run it.
//
//	check render FOLDER     every overlay, as `kubectl kustomize` prints it
//	check verify            published schemas, Pod Security Standards, references between the files
//	check chart HELM        the Helm chart's default objects, against the kustomize base
//	check live BINARY       the binary started as the manifests say: flags, ports, probes, calls, rotation, a drain
//	check measure BINARY    the memory of a pod, against the manifests' request and limit
//	check rehearse BINARY   a rolling restart under load, as the manifests set it up
//
// Where to read on:
//
//	render.go, installation.go                 what the files put into a cluster
//	verify.go, schema.go, references.go        what can be said of that without running anything
//	chart.go                                   the same installation by Helm
//	pod.go, mount.go                           the binary, run as the kubelet would run it
//	live.go, flags.go, measure.go              the commands that run one pod
//	rehearse.go, load.go, core.go, caller.py   the roll-out and its callers
//	cluster.go, dns.go, virtual.go             the parts of a cluster that a roll-out goes through
//	upstream.go, contract.go, authority.go     an OnboardFlow, calls, and certificates to test with
//	isolate.go                                 a network without a way out
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	root := flag.String("repository", ".", "where deploy/ and proto/ are")
	write := flag.Bool("write", false, "verify: write what is generated instead of comparing it")
	options := rehearsalFlags()
	flag.CommandLine.Init("check", flag.ContinueOnError)
	if flag.CommandLine.Parse(os.Args[1:]) != nil {
		os.Exit(64)
	}

	repo := repository(*root)
	var err error
	switch flag.Arg(0) {
	case "render":
		err = render(repo, flag.Arg(1))
	case "verify":
		endAfter(5 * time.Minute) // it may download definitions
		err = verify(repo, *write)
	case "chart":
		err = chart(repo, flag.Arg(1))
	case "live":
		isolate()
		endAfter(2 * time.Minute)
		err = live(repo, flag.Arg(1))
	case "measure":
		isolate()
		endAfter(2 * time.Minute)
		err = measure(repo, flag.Arg(1))
	case "rehearse":
		isolate()
		err = rehearse(repo, flag.Arg(1), *options)
	default:
		flag.Usage()
		os.Exit(64)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// endAfter ends the program, and with it every process that it started, should it still run then.
func endAfter(limit time.Duration) {
	time.AfterFunc(limit, func() {
		fmt.Fprintf(os.Stderr, "`check %s` took longer than %v\n", flag.Arg(0), limit)
		os.Exit(1)
	})
}

// problems collects what is wrong, so that one run shows all of it.
type problems []string

func (p *problems) add(format string, args ...any) {
	*p = append(*p, fmt.Sprintf(format, args...))
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	for _, problem := range p {
		fmt.Println("WRONG ", problem)
	}
	return fmt.Errorf("%d found", len(p))
}
