#!/bin/sh
echo 10
