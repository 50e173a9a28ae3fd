// Command precompile prints runsc/boot/filter/filter_precompiled.go with the seccomp programs that Atoll's
// sandboxes use. tools/gvisor_filters.py runs it inside a patched copy of gVisor's module.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"os"
	"sort"
	"strings"

	"gvisor.dev/gvisor/runsc/boot/filter/config"
)

// platform is the one that Atoll uses.
const platform = `Platform="systrap"`

// unused are options that Atoll never sets; programs for them would only make the file larger.
var unused = []string{
	"HostNetwork=true", "HostNetworkRawSockets=true", "ProfileEnable=true", "NVProxy=true", "TPUProxy=true",
	"RDMAProxy=true", "CgoEnabled=true", "PluginNetwork=true",
}

const head = `// Made by Atoll's tools/gvisor_filters.py; do not edit.

package filter

import (
	"sort"

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
)

// PrecompilationDisabledAtBuildTime is false: there are programs below.
const PrecompilationDisabledAtBuildTime = false

// GetPrecompiled returns the program for the given name, and whether there is one.
func GetPrecompiled(programName string) (precompiledseccomp.Program, bool) {
	program, ok := precompiledPrograms[programName]
	return program, ok
}

// ListPrecompiled returns the names of all programs.
func ListPrecompiled() []string {
	names := make([]string, 0, len(precompiledPrograms))
	for name := range precompiledPrograms {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

var precompiledPrograms = map[string]precompiledseccomp.Program{
`

func main() {
	text, err := generate()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}

func generate() ([]byte, error) {
	programs, err := config.PrecompiledPrograms()
	if err != nil {
		return nil, err
	}
	sort.Slice(programs, func(i, j int) bool { return programs[i].Name < programs[j].Name })
	out := bytes.NewBufferString(head)
	for _, program := range programs {
		if !isUsed(program.Name) {
			continue
		}
		fmt.Fprintf(out, "%q: {\nName: %q,\nVarOffsets: map[string][]int{\n", program.Name, program.Name)
		names := make([]string, 0, len(program.VarOffsets))
		for name := range program.VarOffsets {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Fprintf(out, "%q: %#v,\n", name, program.VarOffsets[name])
		}
		fmt.Fprint(out, "},\nBytecode32: []uint32{")
		for i, word := range program.Bytecode32 {
			if i%12 == 0 {
				fmt.Fprint(out, "\n")
			}
			fmt.Fprintf(out, "%#x, ", word)
		}
		fmt.Fprint(out, "\n},\n},\n")
	}
	fmt.Fprint(out, "}\n")
	return format.Source(out.Bytes())
}

func isUsed(name string) bool {
	for _, option := range unused {
		if strings.Contains(name, option) {
			return false
		}
	}
	return strings.Contains(name, platform)
}
