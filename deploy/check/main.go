// Command check holds the deployment files to what a cluster, and the program itself, would say of them. It needs no
// cluster: scripts/check-deploy and scripts/rehearse-rollout run it.
//
//	check render FOLDER     every overlay, as `kubectl kustomize` prints it
//	check verify            published schemas, Pod Security Standards, references between the files
//	check live BINARY       the binary started as the manifests say: flags, ports, probes, a call, a drain
//	check rehearse BINARY   a rolling restart under load, as the manifests set it up
//	check measure BINARY    what memory a pod takes, for docs/kubernetes.md
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("repository", ".", "where deploy/ and proto/ are")
	write := flag.Bool("write", false, "verify: write what is generated instead of comparing it")
	options := rehearsalFlags()
	flag.Parse()

	repo := repository(*root)
	var err error
	switch flag.Arg(0) {
	case "render":
		err = render(repo, flag.Arg(1))
	case "verify":
		err = verify(repo, *write)
	case "live":
		isolate()
		err = live(repo, flag.Arg(1))
	case "rehearse":
		isolate()
		err = rehearse(repo, flag.Arg(1), *options)
	case "measure":
		isolate()
		err = measure(repo, flag.Arg(1))
	default:
		flag.Usage()
		os.Exit(64)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
