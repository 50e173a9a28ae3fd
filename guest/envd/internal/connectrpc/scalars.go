package connectrpc

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// Bytes is protobuf JSON's bytes: base64, standard or URL alphabet, padded or not.
type Bytes []byte

// UnmarshalJSON accepts every base64 form that protobuf parsers accept.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return Errorf(InvalidArgument, "bytes must be a base64 string: %v", err)
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	decoded, err := encoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return Errorf(InvalidArgument, "bytes are not base64: %v", err)
	}
	*b = decoded
	return nil
}

// Uint32 is protobuf JSON's uint32: a number, or the same as a string.
type Uint32 uint32

// UnmarshalJSON accepts 42, 42.0, 4.2e1 and "42".
func (u *Uint32) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if text == "null" {
		return nil
	}
	if exact, err := strconv.ParseUint(text, 10, 32); err == nil {
		*u = Uint32(exact)
		return nil
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || number < 0 || number > math.MaxUint32 || number != math.Trunc(number) {
		return Errorf(InvalidArgument, "%s is no unsigned 32-bit number", data)
	}
	*u = Uint32(number)
	return nil
}

// Int64 is protobuf JSON's int64, written as a string.
type Int64 int64

// MarshalJSON writes the number as a string, as protobuf does.
func (i Int64) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatInt(int64(i), 10)), nil
}
