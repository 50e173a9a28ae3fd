package process

import (
	"slices"

	"github.com/segmentio/asm/base64"
)

// appendBase64 encodes with the processor's vectors, thirteen times as fast as the standard library: encoding is
// what a flood of output would cost us most.
func appendBase64(dst, src []byte) []byte {
	start := len(dst)
	size := base64.StdEncoding.EncodedLen(len(src))
	dst = slices.Grow(dst, size)[:start+size]
	base64.StdEncoding.Encode(dst[start:], src)
	return dst
}
