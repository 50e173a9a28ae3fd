package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openPTY makes a terminal of the given size whose slave belongs to uid.
func openPTY(size *Size, uid int) (master, slave int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		master, err = unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return 0, 0, err
	}
	slave, err = openSlave(master, size, uid)
	if err != nil {
		_ = unix.Close(master)
		return 0, 0, err
	}
	return master, slave, nil
}

func openSlave(master int, size *Size, uid int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, err
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return 0, err
	}
	name := fmt.Sprintf("/dev/pts/%d", number)
	slave, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if unix.Geteuid() == 0 {
		_ = unix.Fchown(slave, uid, -1) // some kernels refuse; the terminal works without
	}
	if err := resize(slave, size); err != nil {
		_ = unix.Close(slave)
		return 0, err
	}
	return slave, nil
}

func resize(fd int, size *Size) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(size.Cols), Row: uint16(size.Rows)})
}
