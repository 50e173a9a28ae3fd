package identity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
)

const systemBundle = "/etc/ssl/certs/ca-certificates.crt"

// bundles are where distributions keep the roots that programs trust: Debian and Alpine, Fedora, Alpine's alias.
var bundles = []string{systemBundle, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// trust adds PEM certificates to every bundle of this image, once, and makes Debian's where there is none.
func (s *scribe) trust(pem string) error {
	if pem == "" {
		return nil
	}
	added := bytes.TrimSpace([]byte(pem))
	// Kept as a source of its own too, so that update-ca-certificates does not lose it.
	failed := s.replace("/usr/local/share/ca-certificates/atoll.crt", append(added, '\n'))
	for _, bundle := range bundles {
		// An alias (cert.pem → ca-certificates.crt) resolves to a bundle that has been done.
		path, err := filepath.EvalSymlinks(filepath.Join(s.Path, bundle))
		if err != nil {
			if bundle == systemBundle {
				failed = errors.Join(failed, s.replace(bundle, append(added, '\n')))
			}
			continue
		}
		failed = errors.Join(failed, appendOnce(path, added))
	}
	return failed
}

func appendOnce(path string, added []byte) error {
	content, err := os.ReadFile(path)
	if err != nil || bytes.Contains(content, added) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	var text []byte
	if len(content) > 0 && content[len(content)-1] != '\n' {
		text = append(text, '\n')
	}
	_, err = file.Write(append(append(text, added...), '\n'))
	return errors.Join(err, file.Close())
}
