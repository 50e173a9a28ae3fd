// Package reply writes the answers of plain HTTP routes: JSON, and errors as {"code": int, "message": string}.
package reply

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Failure is an error with an HTTP status.
type Failure struct {
	Status  int
	Message string
}

func (f *Failure) Error() string { return f.Message }

// Failf makes a Failure.
func Failf(status int, format string, args ...any) *Failure {
	return &Failure{Status: status, Message: fmt.Sprintf(format, args...)}
}

// JSON writes value with status 200.
func JSON(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		Error(w, Failf(http.StatusInternalServerError, "encoding the answer: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// Error writes a failure.
func Error(w http.ResponseWriter, failure *Failure) {
	body, _ := json.Marshal(map[string]any{"code": failure.Status, "message": failure.Message})
	header := w.Header()
	header.Del("Content-Encoding")
	header.Del("Content-Length")
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(failure.Status)
	_, _ = w.Write(body)
}
