// Package files serves GET and POST /files and POST /files/compose (wire sheet §3).
package files
