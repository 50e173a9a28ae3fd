// Package identity holds what the host tells the daemon about this sandbox: variables, token, default account
// and work directory, names. It serves POST /init, which only the host can sign, and leaves the traces of it
// that programs inside look for: files, host name, certificates, entropy, clock.
package identity
