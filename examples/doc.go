// Package examples runs the resource servers of this directory against the real service. Each directory in it is an
// example by itself.
package examples
