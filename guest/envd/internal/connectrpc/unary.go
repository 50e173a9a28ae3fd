package connectrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// Streamed is a response that writes its own JSON, for answers too large to hold as one value.
type Streamed interface {
	WriteJSON(w io.Writer) error
}

// Unary serves a method that takes one JSON message and answers with one.
func Unary[Req, Res any](method func(*Call, *Req) (Res, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !acceptable(w, r, "application/json") {
			return
		}
		response, err := callUnary(r, method)
		if err != nil {
			writeUnaryError(w, AsError(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if streamed, ok := any(response).(Streamed); ok {
			_ = streamed.WriteJSON(w)
			return
		}
		body, err := json.Marshal(response)
		if err != nil {
			writeUnaryError(w, AsError(err))
			return
		}
		_, _ = w.Write(body)
	})
}

func callUnary[Req, Res any](r *http.Request, method func(*Call, *Req) (Res, error)) (response Res, err error) {
	call, invalid := newCall(r)
	if invalid != nil {
		return response, invalid
	}
	if call.Timeout > 0 {
		ctx, cancel := context.WithTimeout(call.Context, call.Timeout)
		defer cancel()
		call.Context = ctx
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxMessage+1))
	if err != nil {
		return response, Errorf(InvalidArgument, "reading the request: %v", err)
	}
	if len(body) > MaxMessage {
		return response, errTooLarge
	}
	request := new(Req)
	if err := decode(body, request); err != nil {
		return response, err
	}
	return method(call, request)
}

func writeUnaryError(w http.ResponseWriter, err *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(err.Code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(err)
}

func decode(body []byte, into any) error {
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		if coded, ok := errors.AsType[*Error](err); ok {
			return coded
		}
		return Errorf(InvalidArgument, "the message is not the JSON this method expects: %v", err)
	}
	return nil
}

// acceptable answers 405 and 415 itself, as the Connect specification wants for calls it cannot read.
func acceptable(w http.ResponseWriter, r *http.Request, contentType string) bool {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return false
	}
	given, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || given != contentType {
		w.Header().Set("Accept-Post", contentType)
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return false
	}
	return true
}
