#!/bin/sh
echo 20
