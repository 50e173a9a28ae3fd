package proctable

// Tree lists the living processes that belong to the roots: their descendants, and whoever is in a session or a
// process group that one of them leads. The latter finds orphans, whose parent is process 1 already.
// Processes in spare are never part of it.
func Tree(entries []Entry, roots []int, spare map[int]bool) []int {
	member := make(map[int]bool, len(roots))
	for _, root := range roots {
		member[root] = !spare[root]
	}
	belongs := func(e Entry) bool { return member[e.Parent] || member[e.Session] || member[e.Group] }
	for grown := true; grown; {
		grown = false
		for _, e := range entries {
			if !member[e.PID] && !spare[e.PID] && belongs(e) {
				member[e.PID], grown = true, true
			}
		}
	}
	var tree []int
	for _, e := range entries {
		if member[e.PID] && !e.Zombie {
			tree = append(tree, e.PID)
		}
	}
	return tree
}
