// Package access decides who may call what (wire sheet §2): the access token, and signatures of file URLs.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"atoll.dev/envd/internal/reply"
)

// TokenHeader carries the access token.
const TokenHeader = "X-Access-Token"

// Operation is what a signed URL allows.
type Operation string

// The operations of signed URLs.
const (
	Read  Operation = "read"
	Write Operation = "write"
)

// Tokens is the identity's side of the door.
type Tokens interface {
	HasToken() bool
	Token() string
	IsToken(given string) bool
}

// Require lets a request through only with the token, if there is one.
func Require(tokens Tokens, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tokens.HasToken() && !tokens.IsToken(r.Header.Get(TokenHeader)) {
			reply.Error(w, reply.Failf(http.StatusUnauthorized,
				"unauthorized access, please provide a valid access token or method signing if supported"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// CheckSigned accepts the token in its header, or a signature of the URL's path and user for the operation.
func CheckSigned(tokens Tokens, r *http.Request, operation Operation, now time.Time) *reply.Failure {
	if !tokens.HasToken() {
		return nil
	}
	if given := r.Header.Get(TokenHeader); given != "" {
		if !tokens.IsToken(given) {
			return unauthorized("access token present in header but does not match")
		}
		return nil
	}
	return checkSignature(tokens.Token(), r.URL.Query(), operation, now)
}

func checkSignature(token string, query url.Values, operation Operation, now time.Time) *reply.Failure {
	given := query.Get("signature")
	if given == "" {
		return unauthorized("missing signature query parameter")
	}
	expiration := query.Get("signature_expiration")
	expected := Signature(query.Get("path"), operation, query.Get("username"), token, expiration)
	if subtle.ConstantTimeCompare([]byte(given), []byte(expected)) != 1 {
		return unauthorized("invalid signature")
	}
	if expiration == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(expiration, 10, 64)
	if err != nil {
		return unauthorized("invalid signature")
	}
	if seconds < now.Unix() {
		return unauthorized("signature is already expired")
	}
	return nil
}

// Signature is the one a client must show. The expiration is its decimal text, empty for none.
func Signature(path string, operation Operation, user, token, expiration string) string {
	payload := path + ":" + string(operation) + ":" + user + ":" + token
	if expiration != "" {
		payload += ":" + expiration
	}
	sum := sha256.Sum256([]byte(payload))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func unauthorized(message string) *reply.Failure {
	return reply.Failf(http.StatusUnauthorized, "%s", message)
}
