package files

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"

	"atoll.dev/envd/internal/metadata"
	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/users"
)

// WriteInfo is one written file in an upload's answer.
type WriteInfo struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// batch is one upload request on its way.
type batch struct {
	service  *Service
	user     users.User
	path     string // the query's, as it was sent
	metadata map[string]string
	size     int64 // of the body, -1 when unknown
	written  []WriteInfo
}

func (s *Service) upload(w http.ResponseWriter, r *http.Request) {
	written, failure := s.receive(r)
	if failure != nil {
		// Clients read the answer only after sending everything: give them the chance.
		_, _ = io.Copy(io.Discard, r.Body)
		reply.Error(w, failure)
		return
	}
	reply.JSON(w, written)
}

func (s *Service) receive(r *http.Request) ([]WriteInfo, *reply.Failure) {
	query := r.URL.Query()
	user, failure := User(s.identity, query.Get("username"))
	if failure != nil {
		return nil, failure
	}
	set, err := metadata.FromHeader(r.Header)
	if err != nil {
		return nil, reply.Failf(http.StatusBadRequest, "%v", err)
	}
	body, err := decompress(r)
	if err != nil {
		return nil, reply.Failf(http.StatusBadRequest, "%v", err)
	}
	b := &batch{service: s, user: user, path: query.Get("path"), metadata: set, size: r.ContentLength, written: []WriteInfo{}}
	contentType := r.Header.Get("Content-Type")
	kind, parameters, _ := mime.ParseMediaType(contentType)
	switch kind {
	case "multipart/form-data":
		failure = b.multipart(body, parameters["boundary"])
	case "application/octet-stream":
		failure = b.raw(body)
	default:
		failure = reply.Failf(http.StatusBadRequest, "unsupported content type: %s", contentType)
	}
	return b.written, failure
}

func decompress(r *http.Request) (io.Reader, error) {
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, errors.New("error creating gzip reader: the body is not gzip: " + err.Error())
		}
		return body, nil
	default:
		return nil, errors.New("unsupported content encoding: " + encoding)
	}
}

func (b *batch) raw(body io.Reader) *reply.Failure {
	if b.path == "" {
		return reply.Failf(http.StatusBadRequest, "path query parameter is required for raw body upload")
	}
	return b.write(b.path, body)
}

// write puts one file in its place.
func (b *batch) write(path string, content io.Reader) *reply.Failure {
	target, failure := Resolve(b.service.identity, path, b.user)
	if failure != nil {
		return failure
	}
	if err := placing.Write(target, content, placing.Options{Owner: b.user, Metadata: b.metadata}); err != nil {
		return writeFailure(target, err, b.size)
	}
	b.written = append(b.written, WriteInfo{target, filepath.Base(target), "file", b.metadata})
	return nil
}
