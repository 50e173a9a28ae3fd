// Package process is process.Process of the wire sheet (§6): starting commands and terminals, their input,
// output and end.
//
// A Process outlives the stream that started it. Its output goes through a journal that keeps the last MiB of
// each stream; every stream to a client is a reader of that journal with its own position, and a reader that
// falls behind holds the process back.
package process
