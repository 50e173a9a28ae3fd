package connectrpc

import (
	"encoding/binary"
	"errors"
	"io"
)

// Envelope: 1 byte flags, 4 bytes big-endian length, then that many bytes of JSON.
const (
	// HeaderSize is what an envelope adds to its payload, in bytes.
	HeaderSize     = 5
	flagCompressed = 0x01
	flagEndStream  = 0x02

	// MaxMessage bounds one JSON message in bytes. Standard input arrives as base64 in one message.
	MaxMessage = 64 << 20
)

var (
	errTooLarge   = Errorf(ResourceExhausted, "message is larger than %d bytes; send it in smaller pieces", MaxMessage)
	errCompressed = Errorf(Unimplemented, "compressed messages are not supported; send identity encoding")
)

// readEnvelope reads one envelope. io.EOF means a clean end before its first byte.
func readEnvelope(r io.Reader) (flags byte, payload []byte, err error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, nil, Errorf(InvalidArgument, "the request ends inside an envelope's header")
		}
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > MaxMessage {
		return 0, nil, errTooLarge
	}
	if header[0]&flagCompressed != 0 {
		return 0, nil, errCompressed
	}
	payload, err = readExactly(r, int(size))
	return header[0], payload, err
}

// readExactly grows as bytes arrive, so that a header announcing 64 MiB costs nothing by itself.
func readExactly(r io.Reader, size int) ([]byte, error) {
	const step = 64 << 10
	payload := make([]byte, 0, min(size, step))
	for len(payload) < size {
		if len(payload) == cap(payload) {
			grown := make([]byte, len(payload), min(size, 2*cap(payload)))
			copy(grown, payload)
			payload = grown
		}
		n, err := io.ReadFull(r, payload[len(payload):cap(payload)])
		payload = payload[:len(payload)+n]
		if err != nil {
			return nil, Errorf(InvalidArgument, "the request ends inside an envelope: %d of %d bytes", len(payload), size)
		}
	}
	return payload, nil
}

// appendHeader appends an envelope's header for a payload of size bytes.
func appendHeader(dst []byte, flags byte, size int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, flags), uint32(size))
}

// AppendEnvelope appends one message, whose JSON encode appends.
func AppendEnvelope(dst []byte, encode func([]byte) []byte) []byte {
	start := len(dst)
	dst = encode(appendHeader(dst, 0, 0))
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-HeaderSize))
	return dst
}
