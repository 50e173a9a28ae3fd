package identity

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clockTolerance: within it the clock is left alone, since a step disturbs programs more than the error.
const clockTolerance = time.Second

func applyMachine(init *Init) error {
	var failed error
	if init.Hostname != "" {
		if err := unix.Sethostname([]byte(init.Hostname)); err != nil {
			failed = errors.Join(failed, fmt.Errorf("setting the host name: %w", err))
		}
	}
	if len(init.Entropy) > 0 {
		failed = errors.Join(failed, stirEntropy(init.Entropy))
	}
	if init.Timestamp != nil {
		failed = errors.Join(failed, setClock(*init.Timestamp))
	}
	return failed
}

// openPool is kept open: each create of a sandbox waits for what is done here.
var openPool = sync.OnceValues(func() (int, error) {
	return unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
})

// stirEntropy mixes the host's bytes into the kernel's pool. The daemon itself draws random numbers only from
// the kernel, so a clone shares no random state of its own.
func stirEntropy(entropy []byte) error {
	pool, err := openPool()
	if err == nil {
		_, err = unix.Write(pool, entropy)
	}
	if err != nil {
		return fmt.Errorf("adding entropy: %w", err)
	}
	return nil
}

func setClock(now time.Time) error {
	if off := time.Until(now).Abs(); off < clockTolerance {
		return nil
	}
	at := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &at); err != nil {
		return fmt.Errorf("setting the clock: %w", err)
	}
	return nil
}
