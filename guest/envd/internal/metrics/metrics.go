// Package metrics measures this sandbox for GET /metrics.
package metrics

import (
	"bufio"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/reply"
)

const mib = 1 << 20

// Sample is the answer of GET /metrics; sizes in bytes where the name does not say otherwise.
type Sample struct {
	Timestamp  int64   `json:"ts"`
	CPUCount   int     `json:"cpu_count"`
	CPUUsedPct float64 `json:"cpu_used_pct"`
	MemTotMiB  uint64  `json:"mem_total_mib"`
	MemUsedMiB uint64  `json:"mem_used_mib"`
	MemTotal   uint64  `json:"mem_total"`
	MemUsed    uint64  `json:"mem_used"`
	MemCache   uint64  `json:"mem_cache"`
	DiskUsed   uint64  `json:"disk_used"`
	DiskTotal  uint64  `json:"disk_total"`
}

// Meter remembers the last look at the CPU, from which the next one's share is counted.
type Meter struct {
	mu   sync.Mutex
	last cpuTimes
}

// NewMeter starts counting now.
func NewMeter() *Meter { return &Meter{last: readCPU()} }

// ServeHTTP answers GET /metrics.
func (m *Meter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	sample, err := m.take()
	if err != nil {
		reply.Error(w, reply.Failf(http.StatusInternalServerError, "measuring: %v", err))
		return
	}
	reply.JSON(w, sample)
}

func (m *Meter) take() (*Sample, error) {
	memory := ReadMemory()
	var disk unix.Statfs_t
	if err := unix.Statfs("/", &disk); err != nil {
		return nil, err
	}
	block := uint64(disk.Bsize)
	return &Sample{
		Timestamp: time.Now().Unix(), CPUCount: runtime.NumCPU(), CPUUsedPct: m.cpu(),
		MemTotMiB: memory.Total / mib, MemUsedMiB: memory.Used() / mib,
		MemTotal: memory.Total, MemUsed: memory.Used(), MemCache: memory.Cached,
		DiskUsed: (disk.Blocks - disk.Bfree) * block, DiskTotal: disk.Blocks * block,
	}, nil
}

// cpu is the share of all CPUs used since the last call, 0 to 100.
func (m *Meter) cpu() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := readCPU()
	total, idle := now.total-m.last.total, now.idle-m.last.idle
	m.last = now
	if total <= 0 || idle > total {
		return 0
	}
	return float64(int64(10000*(total-idle)/total)) / 100
}

type cpuTimes struct{ total, idle float64 }

// readCPU sums the first line of /proc/stat: user nice system idle iowait irq softirq steal.
func readCPU() cpuTimes {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTimes{}
	}
	line, _, _ := strings.Cut(string(content), "\n")
	var times cpuTimes
	for i, field := range strings.Fields(line) {
		ticks, err := strconv.ParseFloat(field, 64)
		if i == 0 || i > 8 || err != nil {
			continue
		}
		times.total += ticks
		if i == 4 || i == 5 {
			times.idle += ticks
		}
	}
	return times
}

// Memory is what the sandbox sees of its memory, in bytes.
type Memory struct{ Total, Free, Available, Cached uint64 }

// Used is what is neither free nor could be freed at once.
func (m Memory) Used() uint64 { return m.Total - min(m.Available, m.Total) }

// ReadMemory reads /proc/meminfo.
func ReadMemory() Memory {
	var memory Memory
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return memory
	}
	defer file.Close()
	wanted := map[string]*uint64{"MemTotal:": &memory.Total, "MemFree:": &memory.Free, "MemAvailable:": &memory.Available, "Cached:": &memory.Cached}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		if into := wanted[fields[0]]; into != nil {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			*into = kib << 10
		}
	}
	return memory
}
