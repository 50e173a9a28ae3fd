package users

import "strconv"

// Names translates numbers into names for a whole listing with one reading of the files.
type Names struct {
	users  map[uint32]string
	groups map[uint32]string
}

// Names reads both files once.
func (d Database) Names() *Names {
	names := &Names{users: map[uint32]string{0: "root"}, groups: map[uint32]string{0: "root"}}
	seen := map[uint32]bool{}
	d.eachUser(func(u User) {
		if !seen[u.UID] {
			seen[u.UID] = true
			names.users[u.UID] = u.Name
		}
	})
	eachLine(d.Group, 3, func(f []string) {
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			names.groups[uint32(gid)] = f[0]
		}
	})
	return names
}

// User is the account's name, or its number in decimal when it has none.
func (n *Names) User(uid uint32) string { return nameOf(n.users, uid) }

// Group is the group's name, or its number in decimal when it has none.
func (n *Names) Group(gid uint32) string { return nameOf(n.groups, gid) }

func nameOf(names map[uint32]string, id uint32) string {
	if name, ok := names[id]; ok {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}
