// Package cgroup gives every command a control group of its own, in the `pids` hierarchy of the sandbox's kernel.
// A child is born into its parent's group and stays there, whatever sessions and parents it leaves: so all that
// belongs to a command is found with one read.
//
// gVisor has no CLONE_INTO_CGROUP. The daemon itself moves into the group, starts the command there, and moves
// back. Where there is no such hierarchy (the daemon is not process 1, or may not mount), nobody has a group.
package cgroup
