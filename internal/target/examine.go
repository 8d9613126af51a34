package target

import "golang.org/x/sys/unix"

// Examine returns the error that Open would return, as far as that can be seen without
// creating, opening or locking anything; nil if it would succeed.
func Examine(spec Spec) error { return newFile(spec, &system{}).foresee() }

// ExamineDir is Examine for OpenDir.
func ExamineDir(spec Spec, required string, belongs func(name string) bool) error {
	d := &dir{
		destination: destination{sys: &system{}, spec: spec.trimmed(), names: spec.DirNames(), fd: -1},
		given:       spec.Path, required: required, belongs: belongs,
	}
	if err := d.refuse(); err != nil {
		return err
	}
	if err := d.creatable(); err != nil {
		return fail(OpOpen, d.names.Write, err)
	}
	return nil
}

// creatable returns nil if a file could be created in the target's directory.
func (d *destination) creatable() error {
	return d.sys.access(d.names.Dir+"/.", unix.W_OK|unix.X_OK)
}

func (f *file) foresee() error {
	path := f.spec.Path
	if path == "" && (f.spec.Policy == Clobber || f.spec.Policy == NoClobber) {
		return fail(OpOpen, path, unix.ENOENT)
	}
	switch f.spec.Policy {
	case Atomic, Backup:
		if err := f.refuse(); err != nil {
			return err
		}
		if err := f.creatable(); err != nil {
			return fail(OpOpen, f.names.Write, err)
		}
	case Clobber:
		return f.foreseeClobber()
	case NoClobber:
		if _, err := f.sys.lstat(path); err == nil {
			if path != "/" && path[len(path)-1] == '/' {
				return fail(OpOpen, path, unix.EISDIR)
			}
			return fail(OpOpen, path, unix.EEXIST)
		}
		if err := f.creatable(); err != nil {
			return fail(OpOpen, path, err)
		}
	default:
		return fail(OpOpen, path, unix.EINVAL)
	}
	return nil
}

// foreseeClobber is foresee for what openClobber would do.
func (f *file) foreseeClobber() error {
	path := f.spec.Path
	switch err := f.sys.access(path, unix.W_OK); err {
	case nil:
		st, err := f.sys.stat(path)
		switch {
		case err != nil:
			return fail(OpOpen, path, err)
		case fileType(st) == unix.S_IFDIR:
			return fail(OpOpen, path, unix.EISDIR)
		case fileType(st) == unix.S_IFCHR || fileType(st) == unix.S_IFBLK:
			return fail(OpType, path, unix.EINVAL)
		}
		return nil
	case unix.ENOENT:
		if err := f.creatable(); err != nil {
			return fail(OpOpen, path, err)
		}
		return nil
	}
	if st, err := f.sys.lstat(path); err == nil && fileType(st) == unix.S_IFDIR {
		return f.refuseRemove()
	}
	if err := f.creatable(); err != nil {
		return fail(OpRemove, path, err)
	}
	return nil
}
