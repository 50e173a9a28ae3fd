package files

import (
	"strconv"
	"strings"
)

type coding int

const (
	identityCoding coding = iota
	gzipCoding
)

// chooseEncoding reads Accept-Encoding. Compression costs more time than it saves between a sandbox and its
// caller, so gzip is sent only to who asks for nothing else; a list such as a browser's gets identity.
// ok is false when neither is acceptable.
func chooseEncoding(headers []string, ranged bool) (chosen coding, ok bool) {
	quality := map[string]float64{}
	for _, header := range headers {
		for item := range strings.SplitSeq(header, ",") {
			name, q := parseCoding(item)
			if name != "" {
				quality[name] = q
			}
		}
	}
	identity, named := quality["identity"]
	if !named {
		if star, any := quality["*"]; any && star == 0 {
			identity = 0
		} else {
			identity = 1
		}
	}
	compressed, named := quality["gzip"]
	if !named {
		compressed = quality["*"]
	}
	only := len(quality) == 1 && named
	switch {
	case compressed > 0 && !ranged && (only || identity == 0 || compressed > identity):
		return gzipCoding, true
	case identity > 0:
		return identityCoding, true
	}
	return identityCoding, false
}

// parseCoding reads one item such as "gzip;q=0.5".
func parseCoding(item string) (name string, q float64) {
	name, parameters, _ := strings.Cut(item, ";")
	q = 1
	if _, value, ok := strings.Cut(parameters, "="); ok {
		if parsed, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			q = parsed
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), q
}
