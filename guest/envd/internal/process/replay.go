package process

import (
	"strconv"
	"strings"

	"atoll.dev/envd/internal/connectrpc"
)

// ReplayHeader asks Connect for output that was missed: "all", "none", or byte offsets such as
// "stdout=1024,stderr=0" (a stream not named starts from now). E2B has no such thing; without the header
// nothing is replayed.
const ReplayHeader = "Atoll-Replay"

// replay is where each stream starts; nil for none.
type replay map[streamID]int64

func (r replay) offset(id streamID, now int64) int64 {
	if at, ok := r[id]; ok {
		return at
	}
	return now
}

func parseReplay(header string) (replay, error) {
	switch header = strings.TrimSpace(header); header {
	case "", "none":
		return nil, nil
	case "all":
		return replay{stdout: 0, stderr: 0, terminal: 0}, nil
	}
	from := replay{}
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		at, err := strconv.ParseInt(value, 10, 64)
		id, known := streamByName(name)
		if err != nil || at < 0 || !known {
			return nil, connectrpc.Errorf(connectrpc.InvalidArgument,
				"%s must be all, none or offsets like stdout=0,stderr=0, not %q", ReplayHeader, header)
		}
		from[id] = at
	}
	return from, nil
}

func streamByName(name string) (streamID, bool) {
	for id, known := range streamNames {
		if name == known {
			return streamID(id), true
		}
	}
	return 0, false
}
