package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// SignatureHeader carries "<unix_ms>:<base64 Ed25519 signature>" on routes only the host may call.
const SignatureHeader = "Atoll-Host-Signature"

// HostKey checks that a call comes from the host. The private half never enters the sandbox, so nothing inside
// can make such a call, whatever it reads from the daemon's memory.
type HostKey struct {
	mu     sync.Mutex
	public ed25519.PublicKey
	last   int64
}

// ParseHostKey reads the base64 of a 32-byte public key. The empty string gives an open door, for tests.
func ParseHostKey(encoded string) (*HostKey, error) {
	if encoded == "" {
		return &HostKey{}, nil
	}
	key, err := decodeKey(encoded)
	return &HostKey{public: key}, err
}

// Replace makes another host the one that is obeyed, for a snapshot that moves to another machine.
func (k *HostKey) Replace(encoded string) error {
	key, err := decodeKey(encoded)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.public, k.last = key, 0
	return nil
}

func decodeKey(encoded string) (ed25519.PublicKey, error) {
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("host key: not base64: %w", err)
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("host key: %d bytes, not %d", len(key), ed25519.PublicKeySize)
	}
	return key, nil
}

// SigningBytes is what the host signs for one call.
func SigningBytes(method, path string, unixMs int64, body []byte) []byte {
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "%s\n%s\n%d\n%s", method, path, unixMs, hex.EncodeToString(sum[:]))
}

// Verify accepts a call once: its time must be later than that of every call accepted before.
func (k *HostKey) Verify(r *http.Request, body []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.public == nil {
		return nil
	}
	at, signature, err := parseSignature(r.Header.Get(SignatureHeader))
	if err != nil {
		return err
	}
	if !ed25519.Verify(k.public, SigningBytes(r.Method, r.URL.Path, at, body), signature) {
		return errors.New("the host signature does not match")
	}
	if at <= k.last {
		return errors.New("the host signature was used before or is older than the last one")
	}
	k.last = at
	return nil
}

func parseSignature(header string) (int64, []byte, error) {
	ms, encoded, ok := strings.Cut(header, ":")
	if !ok {
		return 0, nil, errors.New("missing " + SignatureHeader + ": only the host may call this")
	}
	at, err := strconv.ParseInt(ms, 10, 64)
	if err != nil || at <= 0 {
		return 0, nil, errors.New("the host signature has no time")
	}
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return 0, nil, errors.New("the host signature is not base64")
	}
	return at, signature, nil
}
