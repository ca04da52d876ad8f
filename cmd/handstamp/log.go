package main

import (
	"io"
	"log/slog"
	"os"
)

// newLogger writes to w in the configured form and from the configured level up.
func newLogger(c Config, w io.Writer) *slog.Logger { return newLevelLogger(c, new(slog.LevelVar), w) }

// levelOf is the configured level.
func (c Config) levelOf() (level slog.Level) {
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return slog.LevelInfo // the configuration was checked before
	}
	return level
}

// newLevelLogger is newLogger with a level that can be changed.
func newLevelLogger(c Config, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(c.levelOf())
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" || c.LogFormat == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
