// SPDX-License-Identifier: Apache-2.0

// Command filters writes what runsc is built with so that a sandbox does not compile its seccomp programs at each start (an
// eighth of the CPU of one): the same programs, from the same rules, compiled ahead. gVisor's own releases are
// built so too, by Bazel; in the Go module the table of programs is empty.
//
// usage: filters FOLDER: of the module, as vendored; two files there get these programs.
package main

import (
	"log"
	"os"
	"path/filepath"
	"strings"
	_ "unsafe" // linkname

	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	_ "gvisor.dev/gvisor/pkg/sentry/platform/systrap"
	sentry "gvisor.dev/gvisor/runsc/boot/filter/config"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

// What these two packages precompile themselves is for all platforms, networks and devices: 576 programs, a minute of CPU.

//go:linkname sentryRules gvisor.dev/gvisor/runsc/boot/filter/config.rules
func sentryRules(opt sentry.Options, vars precompiledseccomp.Values) (seccomp.SyscallRules, seccomp.SyscallRules)

//go:linkname goferRules gvisor.dev/gvisor/runsc/fsgofer/filter/config.rules
func goferRules(opt gofer.Options, vars precompiledseccomp.Values) (seccomp.SyscallRules, seccomp.SyscallRules)

type rulesOf func(vars precompiledseccomp.Values) (seccomp.SyscallRules, seccomp.SyscallRules)

// As filter.Install of both packages builds it.
func precompile(key string, vars precompiledseccomp.Values, options seccomp.ProgramOptions, rules rulesOf) precompiledseccomp.Program {
	var names []string
	for name := range vars {
		names = append(names, name)
	}
	program, err := precompiledseccomp.Precompile(key, names, func(values precompiledseccomp.Values) *seccomp.Program {
		allowed, denied := rules(values)
		return &seccomp.Program{
			RuleSets: []seccomp.RuleSet{{Rules: denied.Copy()}, {Rules: allowed.Copy(), Action: seccomp.Allow}},
			Options:  options,
		}
	})
	if err != nil {
		log.Fatalf("precompile %s: %v", key, err)
	}
	return program
}

func ofSentry() (programs []precompiledseccomp.Program) {
	systrap, err := platform.Lookup("systrap")
	if err != nil {
		log.Fatal(err)
	}
	for _, info := range systrap.PrecompiledSeccompInfo() {
		for _, directfs := range []bool{false, true} {
			opt := sentry.Options{Platform: info, HostFilesystem: directfs}
			programs = append(programs, precompile(opt.ConfigKey(), opt.Vars(), sentry.SeccompOptions(opt),
				func(vars precompiledseccomp.Values) (seccomp.SyscallRules, seccomp.SyscallRules) {
					return sentryRules(opt, vars)
				}))
		}
	}
	return programs
}

func ofGofer() (programs []precompiledseccomp.Program) {
	for _, directfs := range []bool{false, true} {
		for _, lisafs := range []bool{false, true} {
			opt := gofer.Options{DirectFS: directfs, LisafsNeeded: lisafs}
			programs = append(programs, precompile(opt.ConfigKey(), opt.Vars(), seccomp.ProgramOptions{},
				func(vars precompiledseccomp.Values) (seccomp.SyscallRules, seccomp.SyscallRules) {
					return goferRules(opt, vars)
				}))
		}
	}
	return programs
}

func replaceOnce(text, old, with string) string {
	if strings.Count(text, old) != 1 {
		log.Fatalf("this version of gVisor is another one: %q is not there once", old)
	}
	return strings.Replace(text, old, with, 1)
}

// The package's file with an empty table becomes one with these programs in it.
func fill(file string, programs []precompiledseccomp.Program) string {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	const table = "programs := make(map[string]precompiledseccomp.Program)\n"
	filled := table
	for _, p := range programs {
		filled += p.Registration("\t", "precompiledseccomp", "programs")
	}
	return replaceOnce(replaceOnce(string(text), table, filled), "PrecompilationDisabledAtBuildTime = true", "PrecompilationDisabledAtBuildTime = false")
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: filters FOLDER")
	}
	filled := map[string]string{}
	for folder, programs := range map[string][]precompiledseccomp.Program{"runsc/boot/filter": ofSentry(), "runsc/fsgofer/filter": ofGofer()} {
		file := filepath.Join(os.Args[1], folder, "filter_precompiled.go")
		filled[file] = fill(file, programs)
	}
	for file, text := range filled { // both or none, as far as what they hold is what we know
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
