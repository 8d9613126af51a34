package images

// Source is a context that images are read from.
type Source interface {
	// Has reports whether there is an image of that name.
	Has(name string) bool
	// Bytes returns a whole image, which must be a small one.
	Bytes(name string) ([]byte, error)
}

// Read reads an image of a source with one of the functions of this package. The
// error is the source's or the function's.
func Read[T any](s Source, name string, read func(img []byte) (T, error)) (T, error) {
	b, err := s.Bytes(name)
	if err != nil {
		var none T
		return none, err
	}
	return read(b)
}
