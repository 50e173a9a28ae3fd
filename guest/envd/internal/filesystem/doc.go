// Package filesystem is filesystem.Filesystem of the wire sheet (§7), but for watching, which has a package of
// its own: Stat, ListDir, MakeDir, Move, Remove, and the EntryInfo they all answer with.
package filesystem
