package connectrpc

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is a Connect error code as it stands on the wire.
type Code string

// The codes of the Connect protocol.
const (
	Canceled           Code = "canceled"
	Unknown            Code = "unknown"
	InvalidArgument    Code = "invalid_argument"
	DeadlineExceeded   Code = "deadline_exceeded"
	NotFound           Code = "not_found"
	AlreadyExists      Code = "already_exists"
	PermissionDenied   Code = "permission_denied"
	ResourceExhausted  Code = "resource_exhausted"
	FailedPrecondition Code = "failed_precondition"
	Aborted            Code = "aborted"
	OutOfRange         Code = "out_of_range"
	Unimplemented      Code = "unimplemented"
	Internal           Code = "internal"
	Unavailable        Code = "unavailable"
	DataLoss           Code = "data_loss"
	Unauthenticated    Code = "unauthenticated"
)

var httpStatus = map[Code]int{
	Canceled: 499, Unknown: 500, InvalidArgument: 400, DeadlineExceeded: 504, NotFound: 404,
	AlreadyExists: 409, PermissionDenied: 403, ResourceExhausted: 429, FailedPrecondition: 400,
	Aborted: 409, OutOfRange: 400, Unimplemented: 501, Internal: 500, Unavailable: 503,
	DataLoss: 500, Unauthenticated: 401,
}

// HTTPStatus is the status a unary call answers with for this code.
func (c Code) HTTPStatus() int {
	if status, ok := httpStatus[c]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// Error is a failure with a Connect code; its JSON form is the wire form.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an error with a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError gives any error a code: its own, or Internal.
func AsError(err error) *Error {
	if coded, ok := errors.AsType[*Error](err); ok {
		return coded
	}
	return &Error{Code: Internal, Message: err.Error()}
}
