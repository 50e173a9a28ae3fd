package files

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/users"
)

const maxComposeBody = 4 << 20

type composeRequest struct {
	SourcePaths []string `json:"source_paths"`
	Destination string   `json:"destination"`
	Username    string   `json:"username"`
}

// compose joins files into one and removes the pieces.
func (s *Service) compose(w http.ResponseWriter, r *http.Request) {
	var request composeRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxComposeBody)).Decode(&request); err != nil {
		reply.Error(w, reply.Failf(http.StatusBadRequest, "the body is not what compose expects: %v", err))
		return
	}
	info, failure := s.composeFiles(&request)
	if failure != nil {
		reply.Error(w, failure)
		return
	}
	reply.JSON(w, info)
}

func (s *Service) composeFiles(request *composeRequest) (*WriteInfo, *reply.Failure) {
	user, failure := User(s.identity, request.Username)
	if failure != nil {
		return nil, failure
	}
	sources, destination, failure := s.composePaths(request, user)
	if failure != nil {
		return nil, failure
	}
	content := &pieces{paths: sources}
	defer content.close()
	if err := placing.Write(destination, content, placing.Options{Owner: user}); err != nil {
		return nil, writeFailure(destination, err, -1)
	}
	for _, source := range sources {
		if err := os.Remove(source); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, reply.Failf(http.StatusInternalServerError, "composed, but a source stays: %v", err)
		}
	}
	return &WriteInfo{Path: destination, Name: filepath.Base(destination), Type: "file"}, nil
}

func (s *Service) composePaths(request *composeRequest, user users.User) ([]string, string, *reply.Failure) {
	if len(request.SourcePaths) == 0 {
		return nil, "", reply.Failf(http.StatusBadRequest, "source_paths is empty")
	}
	if request.Destination == "" {
		return nil, "", reply.Failf(http.StatusBadRequest, "destination is required")
	}
	destination, failure := Resolve(s.identity, request.Destination, user)
	if failure != nil {
		return nil, "", failure
	}
	seen := map[string]bool{filepath.Clean(destination): true}
	var sources []string
	for _, path := range request.SourcePaths {
		source, failure := Resolve(s.identity, path, user)
		if failure != nil {
			return nil, "", failure
		}
		if seen[filepath.Clean(source)] {
			return nil, "", reply.Failf(http.StatusBadRequest, "the same path stands twice among sources and destination: %s", source)
		}
		seen[filepath.Clean(source)] = true
		if failure := checkSource(source); failure != nil {
			return nil, "", failure
		}
		sources = append(sources, source)
	}
	return sources, destination, nil
}

func checkSource(path string) *reply.Failure {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return reply.Failf(http.StatusNotFound, "source file not found: %s", path)
	}
	if err != nil {
		return reply.Failf(http.StatusInternalServerError, "error opening source file: %v", err)
	}
	if !info.Mode().IsRegular() {
		return reply.Failf(http.StatusBadRequest, "source is not a regular file: %s", path)
	}
	return nil
}

// pieces reads files one after the other, one open at a time.
type pieces struct {
	paths []string
	open  *os.File
}

func (p *pieces) Read(buffer []byte) (int, error) {
	for {
		if p.open == nil {
			if len(p.paths) == 0 {
				return 0, io.EOF
			}
			file, err := os.Open(p.paths[0])
			if err != nil {
				return 0, err
			}
			p.open, p.paths = file, p.paths[1:]
		}
		n, err := p.open.Read(buffer)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		p.close()
	}
}

func (p *pieces) close() {
	if p.open != nil {
		_ = p.open.Close()
		p.open = nil
	}
}
