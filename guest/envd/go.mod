module atoll.dev/envd

go 1.26.0

require golang.org/x/sys v0.50.0

require github.com/segmentio/asm v1.2.1
