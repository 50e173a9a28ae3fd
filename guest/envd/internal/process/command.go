package process

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/users"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what a command sees: the account's, then the sandbox's variables, then its own. Nothing of
// the daemon's but PATH.
func environment(user users.User, global, own map[string]string) map[string]string {
	path := os.Getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	env := map[string]string{"PATH": path, "HOME": user.Home, "USER": user.Name, "LOGNAME": user.Name}
	maps.Copy(env, global)
	maps.Copy(env, own)
	return env
}

func environmentList(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

func checkStrings(config *Config, env map[string]string) error {
	invalid := strings.ContainsRune(config.Cmd, 0) || slices.ContainsFunc(config.Args, hasNUL)
	for name, value := range env {
		invalid = invalid || hasNUL(value) || hasNUL(name) || name == "" || strings.Contains(name, "=")
	}
	if invalid {
		return connectrpc.Errorf(connectrpc.InvalidArgument,
			"a command, its arguments and variables cannot contain NUL, nor a variable's name be empty or contain '='")
	}
	return nil
}

func hasNUL(text string) bool { return strings.ContainsRune(text, 0) }

// find gives the file to execute. Clients always ask for /bin/bash: an image without it gets its sh.
func find(cmd, path, cwd string) (string, error) {
	found, err := search(cmd, path, cwd)
	if err == nil {
		return found, nil
	}
	if filepath.Base(cmd) != "bash" {
		return "", err
	}
	if found, shErr := search("sh", path+":"+defaultPath, cwd); shErr == nil {
		return found, nil
	}
	return "", connectrpc.Errorf(connectrpc.InvalidArgument,
		"error starting process '%s': this image has neither bash nor sh; start a program of its own instead", cmd)
}

// calledAs is a command's own name for itself. A busybox is what it is called, and it is no bash.
func calledAs(cmd, found string) string {
	if filepath.Base(cmd) == "bash" && filepath.Base(found) == "sh" {
		return found
	}
	return cmd
}

func search(cmd, path, cwd string) (string, error) {
	if strings.Contains(cmd, "/") {
		if !filepath.IsAbs(cmd) {
			return filepath.Join(cwd, cmd), executable(filepath.Join(cwd, cmd), cmd)
		}
		return cmd, executable(cmd, cmd)
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, cmd)
		if filepath.IsAbs(candidate) && executable(candidate, cmd) == nil {
			return candidate, nil
		}
	}
	return "", connectrpc.Errorf(connectrpc.InvalidArgument,
		"error starting process '%s': exec: %q: executable file not found in $PATH", cmd, cmd)
}

func executable(path, cmd string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return connectrpc.Errorf(connectrpc.InvalidArgument,
			"error starting process '%s': fork/exec %s: no such file or directory", cmd, path)
	case err != nil:
		return connectrpc.Errorf(connectrpc.InvalidArgument, "error starting process '%s': %v", cmd, err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		return connectrpc.Errorf(connectrpc.InvalidArgument,
			"error starting process '%s': fork/exec %s: permission denied", cmd, path)
	}
	return nil
}
