// Package directories moves whole directories: GET /dirs streams one out as a tar, POST /dirs unpacks one in.
// E2B has neither. Signed URLs work as for files.
package directories
