"""FaceCycle as plain torch modules. No devices, no ranks; files only in `store`."""
