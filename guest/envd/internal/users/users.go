// Package users reads accounts from /etc/passwd and /etc/group on every look-up, because commands inside the
// sandbox change them. An image without these files (scratch, some distroless ones) still has root.
package users

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// User is one account.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Home   string
	Shell  string
	Groups []uint32 // supplementary ones, the primary included
}

// Database names the two files; the zero value means the system's.
type Database struct {
	Passwd string
	Group  string
}

// System is the database of this sandbox.
var System = Database{Passwd: "/etc/passwd", Group: "/etc/group"}

// Lookup finds an account by name, or by number where no account has that name.
func (d Database) Lookup(name string) (User, error) {
	var found, numbered *User
	d.eachUser(func(u User) {
		if u.Name == name && found == nil {
			found = &u
		}
		if strconv.FormatUint(uint64(u.UID), 10) == name && numbered == nil {
			numbered = &u
		}
	})
	switch {
	case found != nil:
	case numbered != nil:
		found = numbered
	case name == "root" || name == "0":
		found = &User{Name: "root", Home: rootHome()}
	default:
		return User{}, fmt.Errorf("user: unknown user %s", name)
	}
	found.Groups = d.groupsOf(found.Name, found.GID)
	return *found, nil
}

func rootHome() string {
	if info, err := os.Stat("/root"); err == nil && info.IsDir() {
		return "/root"
	}
	return "/"
}

func (d Database) eachUser(visit func(User)) {
	eachLine(d.Passwd, 7, func(f []string) {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil || f[0] == "" {
			return
		}
		home := f[5]
		if home == "" {
			home = "/"
		}
		visit(User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: home, Shell: f[6]})
	})
}

func (d Database) groupsOf(name string, primary uint32) []uint32 {
	groups := []uint32{primary}
	eachLine(d.Group, 4, func(f []string) {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || !slices.Contains(strings.Split(f[3], ","), name) {
			return
		}
		if !slices.Contains(groups, uint32(gid)) {
			groups = append(groups, uint32(gid))
		}
	})
	return groups
}

// eachLine visits the colon-separated lines of a file that have at least width fields. A missing file has none.
func eachLine(path string, width int, visit func([]string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) >= width && !strings.HasPrefix(fields[0], "#") {
			visit(fields)
		}
	}
}
