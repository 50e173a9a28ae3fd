package files

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"atoll.dev/envd/internal/reply"
)

// multipart writes every part named "file". Without a path in the query a part's filename is its full path.
func (b *batch) multipart(body io.Reader, boundary string) *reply.Failure {
	if boundary == "" {
		return reply.Failf(http.StatusBadRequest, "error parsing multipart form: no boundary in the content type")
	}
	parts := multipart.NewReader(body, boundary)
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return reply.Failf(http.StatusBadRequest, "error reading multipart form: %v", err)
		}
		name, filename := disposition(part.Header.Get("Content-Disposition"))
		if name != "file" {
			continue
		}
		if failure := b.part(filename, part); failure != nil {
			return failure
		}
	}
}

func (b *batch) part(filename string, content io.Reader) *reply.Failure {
	path := b.path
	switch {
	case path != "" && len(b.written) > 0:
		return reply.Failf(http.StatusBadRequest,
			"cannot upload multiple files to the same path '%s': leave the path out and name each part's file", path)
	case path == "" && filename == "":
		return reply.Failf(http.StatusBadRequest, "a part has no filename, and the query no path: where should it go?")
	case path == "":
		path = filename
	}
	return b.write(path, content)
}

// disposition reads a part's name and filename. Part.FileName of the standard library would cut the filename
// down to its last element; here it is a path. Browsers and JavaScript write quotes and line ends in it as
// %22, %0D and %0A.
func disposition(header string) (name, filename string) {
	kind, parameters, err := mime.ParseMediaType(header)
	if err != nil || kind != "form-data" {
		return "", ""
	}
	return parameters["name"], unescapeForm.Replace(parameters["filename"])
}

var unescapeForm = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0A", "\n")
