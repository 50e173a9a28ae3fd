package connectrpc

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

const streamType = "application/connect+json"

// Sender writes a stream's messages. It is used by one goroutine.
type Sender struct {
	w       http.ResponseWriter
	control *http.ResponseController
	dirty   bool
}

// Send writes one message; it reaches the client at the next Flush at the latest.
func (s *Sender) Send(message any) error {
	payload, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return s.write(append(appendHeader(make([]byte, 0, HeaderSize+len(payload)), 0, len(payload)), payload...))
}

// passedOn: net/http hands a write of this size to the connection at once. All that a flush would add is the line
// end after the chunk, for a system call and a packet of its own.
const passedOn = 16 << 10

// SendEnvelopes writes messages that AppendEnvelope has framed.
func (s *Sender) SendEnvelopes(envelopes []byte) error {
	err := s.write(envelopes)
	if len(envelopes) >= passedOn {
		s.dirty = false
	}
	return err
}

// Flush passes everything sent so far on to the client.
func (s *Sender) Flush() error {
	if !s.dirty {
		return nil
	}
	s.dirty = false
	return s.control.Flush()
}

func (s *Sender) write(envelope []byte) error {
	s.dirty = true
	_, err := s.w.Write(envelope)
	return err
}

// end closes the stream: status 200 always, the error inside the last envelope.
func (s *Sender) end(err error) {
	payload := []byte("{}")
	if err != nil {
		payload, _ = json.Marshal(map[string]*Error{"error": AsError(err)})
	}
	_ = s.write(append(appendHeader(nil, flagEndStream, len(payload)), payload...))
	_ = s.Flush()
}

// ServerStream serves a method that takes one message and answers with many.
func ServerStream[Req any](method func(*Call, *Req, *Sender) error) http.Handler {
	return stream(func(call *Call, body io.Reader, sender *Sender) error {
		request := new(Req)
		if err := readOnly(body, request); err != nil {
			return err
		}
		return method(call, request, sender)
	})
}

// ClientStream serves a method that takes many messages and answers with one. The method receives a function
// that gives the next message, io.EOF after the last.
func ClientStream[Req, Res any](method func(*Call, func() (*Req, error)) (Res, error)) http.Handler {
	return stream(func(call *Call, body io.Reader, sender *Sender) error {
		response, err := method(call, func() (*Req, error) { return readNext[Req](body) })
		if err != nil {
			return err
		}
		return sender.Send(response)
	})
}

func stream(serve func(*Call, io.Reader, *Sender) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !acceptable(w, r, streamType) {
			return
		}
		w.Header().Set("Content-Type", streamType)
		sender := &Sender{w: w, control: http.NewResponseController(w)}
		call, invalid := newCall(r)
		if invalid != nil {
			sender.end(invalid)
			return
		}
		sender.end(serve(call, r.Body, sender))
	})
}

// readOnly reads the one message of a server stream and the end of the request: net/http notices a client
// that goes away only once the whole request has been read.
func readOnly(body io.Reader, into any) error {
	flags, payload, err := readEnvelope(body)
	if errors.Is(err, io.EOF) {
		return Errorf(InvalidArgument, "the request has no message")
	}
	if err != nil {
		return err
	}
	if flags&flagEndStream != 0 {
		return Errorf(InvalidArgument, "the request ends before its message")
	}
	if extra, err := io.Copy(io.Discard, io.LimitReader(body, 64<<10)); err != nil {
		return Errorf(InvalidArgument, "reading the request: %v", err)
	} else if extra > HeaderSize+2 {
		return Errorf(InvalidArgument, "the request has more than one message")
	}
	return decode(payload, into)
}

func readNext[Req any](body io.Reader) (*Req, error) {
	flags, payload, err := readEnvelope(body)
	if err != nil {
		return nil, err
	}
	if flags&flagEndStream != 0 {
		return nil, io.EOF
	}
	message := new(Req)
	return message, decode(payload, message)
}
