package guard

import (
	"os"

	"atoll.dev/envd/internal/cgroup"
	"atoll.dev/envd/internal/proctable"
)

// family is a command with all that descends from it, also when the command itself has ended.
type family struct {
	root  int
	group *cgroup.Group // nil where there are none
}

func (g *Guard) families() []family {
	var families []family
	grouped := map[int]bool{}
	for _, group := range g.groups.Groups() {
		families = append(families, family{group.Root, group})
		grouped[group.Root] = true
	}
	for _, root := range g.commands.Roots() {
		if !grouped[root] {
			families = append(families, family{root: root})
		}
	}
	return families
}

// members lists the pids. The process table is read only where there is no group.
func (f family) members(entries func() []proctable.Entry) []int {
	if f.group != nil {
		return f.group.Members()
	}
	return proctable.Tree(entries(), []int{f.root}, map[int]bool{os.Getpid(): true, 0: true, 1: true})
}

func (f family) kill() {
	if f.group != nil {
		f.group.Kill()
		return
	}
	proctable.KillTree(f.root)
}

// find gives the family of a root; one that was never a command's is a family by its session.
func find(families []family, root int) family {
	for _, f := range families {
		if f.root == root {
			return f
		}
	}
	return family{root: root}
}
