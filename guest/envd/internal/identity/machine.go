package identity

import (
	"errors"
	"fmt"
	"os"
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

// stirEntropy mixes the host's bytes into the kernel's pool. The daemon itself draws random numbers only from
// the kernel, so a clone shares no random state of its own.
func stirEntropy(entropy []byte) error {
	pool, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("adding entropy: %w", err)
	}
	_, err = pool.Write(entropy)
	return errors.Join(err, pool.Close())
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
