// Probe is what the node's tests run inside a sandbox of a root that has nothing else.
//
//	probe facts              JSON: processors, memory and disk as the guest sees them
//	probe connect HOST:PORT  exit 0 when a TCP connection is made within 2 s, else 1 and why
//	probe lookup NAME        exit 0 when the name resolves
//	probe fill PATH MIB      writes a file; exit 1 and why when it cannot
//	probe eat MIB            holds that much memory until it is ended
//	probe read PATH          prints a file
//	probe signal PID NUMBER  sends a signal
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch args[0] {
	case "facts":
		return facts()
	case "connect":
		conn, err := net.DialTimeout("tcp4", args[1], 2*time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	case "lookup":
		_, err := net.LookupHost(args[1])
		return err
	case "fill":
		return fill(args[1], args[2])
	case "eat":
		return eat(args[1])
	case "read":
		data, err := os.ReadFile(args[1])
		fmt.Print(string(data))
		return err
	case "signal":
		pid, _ := strconv.Atoi(args[1])
		number, _ := strconv.Atoi(args[2])
		return syscall.Kill(pid, syscall.Signal(number))
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func facts() error {
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs("/", &disk); err != nil {
		return err
	}
	kib, _ := strconv.Atoi(strings.Fields(string(memory))[1])
	hostname, _ := os.Hostname()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"processors": runtime.NumCPU(),
		"memory_mib": kib / 1024,
		"disk_mib":   disk.Blocks * uint64(disk.Bsize) >> 20,
		"hostname":   hostname,
	})
}

func fill(path, mib string) error {
	count, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i)
	}
	for range count {
		if _, err := file.Write(block); err != nil {
			return err
		}
	}
	return nil
}

func eat(mib string) error {
	count, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	held := make([]byte, count<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	time.Sleep(time.Hour)
	return nil
}
