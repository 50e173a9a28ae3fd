// Package connectrpc serves Connect-protocol methods with the JSON codec over plain HTTP/1.1.
//
// It owns envelopes, error codes, request headers (user, keep-alive interval, timeout) and JSON quirks of
// protobuf messages. It knows no service. It imports the standard library only.
package connectrpc
