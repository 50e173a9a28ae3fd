package users

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func database(t *testing.T, passwd, group string) Database {
	t.Helper()
	dir := t.TempDir()
	d := Database{filepath.Join(dir, "passwd"), filepath.Join(dir, "group")}
	for path, content := range map[string]string{d.Passwd: passwd, d.Group: group} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestLookup(t *testing.T) {
	d := database(t, "root:x:0:0:root:/root:/bin/bash\n#c:x:9:9::/:\nuser:x:1000:1001:,,,:/home/user:/bin/sh\nbad:x:y:1::/:\nnohome:x:7:7:::\n",
		"root:x:0:\nsudo:x:27:other,user\nuser:x:1001:\ndocker:x:99:user\n")
	for _, row := range []struct {
		name string
		want User
		ok   bool
	}{
		{"root", User{"root", 0, 0, "/root", "/bin/bash", []uint32{0}}, true},
		{"user", User{"user", 1000, 1001, "/home/user", "/bin/sh", []uint32{1001, 27, 99}}, true},
		{"1000", User{"user", 1000, 1001, "/home/user", "/bin/sh", []uint32{1001, 27, 99}}, true},
		{"nohome", User{"nohome", 7, 7, "/", "", []uint32{7}}, true},
		{"bad", User{}, false},
		{"#c", User{}, false},
		{"nobody", User{}, false},
	} {
		got, err := d.Lookup(row.name)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if got.Name != row.want.Name || got.UID != row.want.UID || got.GID != row.want.GID || got.Home != row.want.Home ||
			got.Shell != row.want.Shell || !slices.Equal(got.Groups, row.want.Groups) {
			t.Errorf("%s: got %+v", row.name, got)
		}
	}
	if _, err := d.Lookup("nobody"); err.Error() != "user: unknown user nobody" {
		t.Errorf("message %q", err)
	}
}

func TestAnImageWithoutAccountsHasRoot(t *testing.T) {
	d := Database{"/nonexistent/passwd", "/nonexistent/group"}
	root, err := d.Lookup("root")
	if err != nil || root.UID != 0 || root.Home == "" {
		t.Fatalf("%+v %v", root, err)
	}
	if _, err := d.Lookup("user"); err == nil {
		t.Error("there is no other account")
	}
}

func TestNames(t *testing.T) {
	names := database(t, "root:x:0:0::/root:\nuser:x:1000:1000::/:\nalias:x:1000:1000::/:\n", "root:x:0:\nstaff:x:50:\n").Names()
	for got, want := range map[string]string{
		names.User(0): "root", names.User(1000): "user", names.User(77): "77", names.Group(50): "staff", names.Group(51): "51",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
