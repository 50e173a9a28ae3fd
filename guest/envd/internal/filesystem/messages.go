package filesystem

// PathRequest is StatRequest, MakeDirRequest and RemoveRequest.
type PathRequest struct {
	Path string `json:"path"`
}

// MoveRequest renames source to destination.
type MoveRequest struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

// EntryResponse is StatResponse, MakeDirResponse and MoveResponse.
type EntryResponse struct {
	Entry *Entry `json:"entry"`
}

// Empty is a message without fields.
type Empty struct{}
